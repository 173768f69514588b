-- Answer the instances that were heard of in time; first record that one of them lives, if it is told.
if given.me then
    call('HSET', base .. 'instances', given.me, given.info)
    call('ZADD', base .. 'seen', text(now), given.me)
    call('HSETNX', base .. 'births', given.me, text(now))
    call('ZADD', base .. 'lives', text(now), given.me)
end
local found = {}
local seen = call('ZRANGEBYSCORE', base .. 'seen', text(now - given.ttl), '+inf', 'WITHSCORES')
for place = 1, #seen, 2 do
    found[#found + 1] = {seen[place], call('HGET', base .. 'instances', seen[place]) or '', text(tonumber(seen[place + 1]))}
end
return answer(found)
