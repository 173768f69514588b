-- Answer rows by their places, newest first, below one place and from another one on: of one task, of some endings, or all.
local found, oldest, newest = {}, false, false
if given.name then
    for _, place in ipairs(call('ZRANGE', base .. 'log:' .. given.name, 0, -1)) do
        if not oldest or is_before(place, oldest) then
            oldest = place
        end
        if not newest or is_before(newest, place) then
            newest = place
        end
        if is_before(place, given.below) and not is_before(place, given.since) then
            found[#found + 1] = place
        end
    end
else
    oldest, newest = call('ZRANGE', base .. 'all', 0, 0)[1], call('ZRANGE', base .. 'all', -1, -1)[1]
    for _, set in ipairs(given.sets) do
        local some = call(
            'ZREVRANGEBYLEX', base .. set, '(' .. given.below, '[' .. given.since, 'LIMIT', 0, given.limit
        )
        for _, place in ipairs(some) do
            found[#found + 1] = place
        end
    end
end
table.sort(found, function(one, other) return is_before(other, one) end)
local rows = {}
for _, place in ipairs(found) do
    if #rows >= given.limit then
        break
    end
    local row = call('HGET', base .. 'rows', place)
    if row and (not given.name or not given.endings or given.endings[ending_of(cjson.decode(row))]) then
        rows[#rows + 1] = row
    end
end
return answer({rows = rows, oldest = oldest or cjson.null, newest = newest or cjson.null})
