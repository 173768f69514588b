-- Delete all rows of a task; answer how many there were.
local places = call('ZRANGE', base .. 'log:' .. given.name, 0, -1)
for _, place in ipairs(places) do
    drop_row(given.name, place)
end
call('ZREM', base .. 'logs', given.name)
return answer(text(#places))
