-- Answer the records with some names, or all; if asked, only those of which an instance has something.
local names = given.names or call('ZRANGE', base .. 'names', 0, -1)
local found = {}
for _, name in ipairs(names) do
    local record = read(name)
    if record and (not given.only_active or record.owner or record.holds ~= '{}') then
        found[#found + 1] = shown(name, record)
    end
end
return answer({now = text(now), records = found})
