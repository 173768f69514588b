-- Claim what is due, oldest first. The instance's tasks are kept on the server, in a share: each with how long before its
-- tick it may be claimed, which is a: as told, p: at its tick, o: when it is overdue by the patience of this instance.
-- Answers null if the share is not known (any more).
local share = base .. 'share:' .. given.share
if given.tasks then
    local pairs_of, number = {}, 0
    for name, class in pairs(given.tasks) do
        pairs_of[#pairs_of + 1] = name
        pairs_of[#pairs_of + 1] = class
        if #pairs_of == MANY then
            call('HSET', share, unpack(pairs_of))
            pairs_of = {}
        end
    end
    if #pairs_of > 0 then
        call('HSET', share, unpack(pairs_of))
    end
end
local left = call('PTTL', share)
if left == -2 and given.number > 0 then
    return answer(cjson.null)
end
if left ~= -2 and left < 30000 then
    call('PEXPIRE', share, 60000)
end

local reach = {a = given.ahead, p = 0, o = -given.patience}
local early = {a = given.lead, p = 0, o = -given.patience}

local function classes(names)
    local found = {}
    for first = 1, #names, MANY do
        local some = {unpack(names, first, math.min(first + MANY - 1, #names))}
        for place, class in ipairs(call('HMGET', share, unpack(some))) do
            found[some[place]] = class
        end
    end
    return found
end

-- What may be claimed, by when it is due or was requested, then by name.
local ready = {}
local free = call('ZRANGEBYSCORE', base .. 'free', '-inf', text(now + given.ahead), 'WITHSCORES')
local names = {}
for place = 1, #free, 2 do
    names[#names + 1] = free[place]
end
local class_of = classes(names)
for place = 1, #free, 2 do
    local name, due = free[place], tonumber(free[place + 1])
    local class = class_of[name]
    if class and due <= now + reach[class] then
        ready[#ready + 1] = {name, due}
    end
end
local extra = call('ZRANGE', base .. 'extra', 0, -1)
class_of = classes(extra)
for _, name in ipairs(extra) do
    local class, due = class_of[name], tonumber(call('ZSCORE', base .. 'free', name))
    if class and (not due or due > now + reach[class]) then
        local moment = tonumber(call('ZSCORE', base .. 'extra', name))
        local place = #ready + 1
        while place > 1 and (
            ready[place - 1][2] > moment
            or ready[place - 1][2] == moment and is_before(name, ready[place - 1][1])
        ) do
            place = place - 1
        end
        table.insert(ready, place, {name, moment, true})
    end
end

local won = {}
for _, each in ipairs(ready) do
    if #won >= given.limit then
        break
    end
    local name, manual = each[1], each[3]
    local record = read(name)
    if not record then  -- Somebody has removed it by hand, or the server to free memory.
        delete(name)
    elseif record.owner or record.holds ~= '{}' then
        index(name, record)
    else
        record.rev = stamp(record.rev)
        record.fence = record.rev
        record.owner = given.me
        record.lease_until = text(now + given.ttl)
        record.challenged = '0'
        record.manual = manual and '1' or '0'
        if manual then
            record.claimed_at = text(now)
            record.manual_claims = text(record.manual_claims + 1)
        else
            record.claimed_at = text(math.max(now, tonumber(record.next_due)))
            record.claims = text(record.claims + 1)
        end
        write(name, record, record.before)
        won[#won + 1] = shown(name, record)
    end
end

-- When the next of the others may be claimed.
local nearest
local from, place = '(' .. text(now - given.patience), 0
repeat
    local some = call('ZRANGEBYSCORE', base .. 'free', from, '+inf', 'WITHSCORES', 'LIMIT', place, 100)
    for at = 1, #some, 2 do
        local name, due = some[at], tonumber(some[at + 1])
        if nearest and due - given.lead >= nearest then
            some = {}
            break
        end
        local class = call('HGET', share, name)
        if class and due > now + reach[class] and (not nearest or due - early[class] < nearest) then
            nearest = due - early[class]
        end
    end
    place = place + 100
until #some == 0

local expired = read_all(call('ZRANGEBYSCORE', base .. 'ends', '-inf', '(' .. text(now)))

-- Which of the tasks have no record: asked again only when a record was made or deleted since.
local made = call('HGET', base .. 'meta', 'made') or ''
local missing = cjson.null
if made ~= given.made then
    missing = {}
    for _, name in ipairs(call('HKEYS', share)) do
        if not call('ZSCORE', base .. 'names', name) then
            missing[#missing + 1] = name
        end
    end
end
return answer({
    now = text(clock()), won = won, next_claim_at = nearest and text(nearest) or cjson.null, expired = expired,
    made = made, missing = missing,
})
