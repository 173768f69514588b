-- Extend the leases of an instance: of each task that of its run, and those of some holds, in one write.
local renewed = {}
for _, each in ipairs(given.wanted) do
    local name, fence, keys = unpack(each)
    local record = read(name)
    if record then
        local holds = cjson.decode(record.holds)
        local is_run = record.owner == given.me and record.fence == fence
        local changed = is_run
        for _, key in ipairs(keys) do
            if holds[key] then
                holds[key]['until'] = now + given.ttl
                holds[key].challenged = false
                changed = true
            end
        end
        if is_run then
            record.lease_until = text(now + given.ttl)
            record.challenged = '0'
        end
        if changed then
            record.rev = stamp(record.rev)
            record.holds = holds_text(holds)
            write(name, record, record.before)
            local found = {}
            for key in pairs(holds) do
                found[#found + 1] = key
            end
            renewed[#renewed + 1] = {name, is_run, found}
        end
    end
end
local own_claims, own_holds = {}, {}
local claims = call('HGETALL', base .. 'claims')
for place = 1, #claims, 2 do
    if claims[place + 1] == given.me then
        local name = claims[place]
        own_claims[#own_claims + 1] = {name, call('HGET', base .. 'task:' .. name, 'fence')}
    end
end
for _, name in ipairs(call('SMEMBERS', base .. 'held')) do
    for key in pairs(cjson.decode(call('HGET', base .. 'task:' .. name, 'holds') or '{}')) do
        if instance_of(key) == given.me then
            own_holds[#own_holds + 1] = {name, key}
        end
    end
end
return answer({now = text(clock()), renewed = renewed, own_claims = own_claims, own_holds = own_holds})
