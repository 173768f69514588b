-- Replace records, each only if its rev is still the stored one, and keep the rows that come with it.
local done, wakes = {}, false
for _, change in ipairs(given.changes) do
    local record = read(change.name)
    if (record and record.rev or '') == change.old_rev then
        if change.new then
            local new = {}
            for place, field in ipairs(FIELDS) do
                local value = change.new[place]
                new[field] = value ~= cjson.null and value
            end
            write(change.name, new, record and record.before)
        else
            delete(change.name)
        end
        keep_rows(change.rows)
        wakes = wakes or change.wakes
        done[#done + 1] = change.name
    end
end
if wakes then
    tell()
end
return answer(done)
