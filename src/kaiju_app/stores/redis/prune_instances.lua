-- Forget instances that were not heard of for long, and their lives, of which only so many are kept.
local before = '(' .. text(now - given.age)
for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'seen', '-inf', before)) do
    call('ZREM', base .. 'seen', id)
    call('HDEL', base .. 'instances', id)
end
local old = call('ZRANGEBYSCORE', base .. 'lives', '-inf', before)
for _, id in ipairs(call('ZRANGE', base .. 'lives', 0, -given.most - 1)) do
    old[#old + 1] = id
end
for _, id in ipairs(old) do
    call('ZREM', base .. 'lives', id)
    call('HDEL', base .. 'births', id)
    call('HDEL', base .. 'notes', id)
end
return answer(text(#old))
