-- Delete old rows of some tasks, which are those whose names come next; answer how many rows, and the last of the names.
local names = call('ZRANGEBYLEX', base .. 'logs', given.after == '' and '-' or '(' .. given.after, '+', 'LIMIT', 0, 25)
local gone = 0
for _, name in ipairs(names) do
    local places = call('ZRANGE', base .. 'log:' .. name, 0, -1)
    for number, place in ipairs(places) do
        if number < #places then
            local is_old = number <= #places - given.keep
            if not is_old then
                local row = call('HGET', base .. 'rows', place)
                is_old = not row or cjson.decode(row)[8] < now - given.age
            end
            if is_old then
                drop_row(name, place)
                gone = gone + 1
            end
        end
    end
end
return answer({gone = text(gone), reached = names[#names] or cjson.null})
