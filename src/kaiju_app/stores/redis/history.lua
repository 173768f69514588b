-- Answer the latest rows of a task, newest first.
local rows = {}
for _, place in ipairs(call('ZREVRANGE', base .. 'log:' .. given.name, 0, given.limit - 1)) do
    rows[#rows + 1] = call('HGET', base .. 'rows', place) or nil
end
return answer(rows)
