-- Answer from when to when instances were heard of, the latest first, with what was noted of them.
local found = {}
local lives = call('ZREVRANGE', base .. 'lives', 0, given.most - 1, 'WITHSCORES')
for place = 1, #lives, 2 do
    local id, seen_at = lives[place], text(tonumber(lives[place + 1]))
    found[#found + 1] = {
        id, call('HGET', base .. 'births', id) or seen_at, seen_at, call('HGET', base .. 'notes', id) or '',
    }
end
return answer(found)
