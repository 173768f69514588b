-- End the ticks of claims: free the record, set its next tick and keep the rows, each only for the current claim.
local function without_requests(holds)
    local left = cjson.decode(holds)
    for key in pairs(left) do
        if string.sub(key, 1, #given.request) == given.request then
            left[key] = nil
        end
    end
    return holds_text(left)
end

local function judged(record, ending)
    if not record then
        return 'LOST'
    end
    if record.owner == given.me and record.fence == ending.fence then
        if record.manual ~= '1' and record.schedule ~= ending.schedule then
            return 'CHANGED'
        end
        return 'OK'
    end
    if record.fence == ending.fence and not record.owner then
        local is_over
        if ending.next_tick then
            is_over = tonumber(record.last_done) >= tonumber(ending.tick)
        else
            is_over = record.manual_at ~= ending.tick
        end
        if is_over then
            return 'DONE'
        end
    end
    return 'LOST'
end

local verdicts, is_awaited = {}, false
for place, ending in ipairs(given.endings) do
    local record = read(ending.name)
    verdicts[place] = judged(record, ending)
    if verdicts[place] == 'OK' then
        if record.manual == '1' then
            record.manual_at = false
            record.manual_claims = '0'
        else
            local coming = tonumber(record.next_tick) + 1
            record.last_done = record.next_tick
            record.next_tick = tonumber(ending.next_tick) > coming and ending.next_tick or text(coming)
            local is_later = tonumber(ending.next_due) > tonumber(record.next_tick)
            record.next_due = is_later and ending.next_due or record.next_tick
            record.next_unknown = ending.next_unknown
            record.claims = '0'
            record.held_back_by = false
        end
        record.rev = stamp(record.rev)
        record.known_at = text(now)
        record.owner = false
        record.lease_until = false
        record.claimed_at = false
        record.challenged = '0'
        record.manual = '0'
        record.holds = record.holds == '{}' and '{}' or without_requests(record.holds)
        write(ending.name, record, record.before)
        keep_rows(ending.rows)
        is_awaited = is_awaited or record.holds ~= '{}'
    end
end
if is_awaited then
    tell()
end
return answer(verdicts)
