-- Answer tasks that no instance has known for long, and that none runs or holds.
local found = {}
for _, name in ipairs(call('ZRANGE', base .. 'names', 0, -1)) do
    if #found >= given.limit then
        break
    end
    local record = read(name)
    if record and not record.owner and record.holds == '{}' and now - record.known_at > given.unseen_for then
        found[#found + 1] = name
    end
end
return answer(found)
