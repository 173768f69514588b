-- What all scripts have before their own lines. A script is one atomic step on the server.
--
-- KEYS[1] is the beginning of the keys of one application, "kaiju:{app}:". Its braces keep all of them in one slot of a
-- cluster. ARGV[1] holds the arguments as JSON. A number of Lua is exact up to 2^53, the microseconds until the year 2255,
-- and cjson writes only 14 digits of it. So numbers are stored and answered as texts, and compared as numbers.
--
--   meta            hash: schema; seq, the number of the last ledger row; made, when a record was last made or deleted
--   task:NAME       hash: the record, without the fields that are None
--   names           sorted set: the names of all records
--   free, extra     sorted sets: the free tasks by when they are due, and by when an extra run of them was requested
--   ends            sorted set: claimed and held tasks by when the first lease or pause ends
--   claims, held    hash: the owner of each claimed task; set: the held tasks
--   rows            hash: the ledger rows by their places, which are texts in the order of the ledger
--   log:NAME, logs  sorted sets: the places of a task's rows in the order in which they came; the tasks that have rows
--   all, ending:E   sorted sets: the places of all rows, and of those that ended so
--   share:DIGEST    hash: the tasks that instances claim, with how long ahead; expires
--   instances, seen, births, lives, notes     what is known of instances
local base = KEYS[1]
local given = cjson.decode(ARGV[1])
local call = redis.call

local FIELDS = {
    'rev', 'schedule', 'version', 'next_tick', 'next_due', 'last_done', 'known_at', 'next_unknown', 'claims', 'manual_at',
    'manual_claims', 'manual', 'owner', 'fence', 'lease_until', 'challenged', 'claimed_at', 'holds', 'held_back_by',
}
local PLACE = {}
for place, field in ipairs(FIELDS) do
    PLACE[field] = place
end
local MANY = 1000  -- Arguments of one command: a Lua function takes some thousands.

local function clock()
    local time = call('TIME')
    return time[1] * 1000000 + time[2]
end
local now = clock()

local function text(number)
    return string.format('%.0f', number)
end

local function answer(values)
    return cjson.encode(values)
end

local function stamp(rev)
    return text(math.max(tonumber(rev) + 1, now))
end

-- --- records ---

local function read(name)
    local values = call('HMGET', base .. 'task:' .. name, unpack(FIELDS))
    if not values[1] then
        return nil
    end
    local record = {before = values}
    for place, field in ipairs(FIELDS) do
        record[field] = values[place]
    end
    return record
end

local function shown(name, record)
    local values = {name}
    for place, field in ipairs(FIELDS) do
        values[place + 1] = record[field]
    end
    return values
end

local function instance_of(key)
    return string.match(key, '^[^#]*')
end

-- How the holds of a record are written is the same for every engine: see holds in the codec.
local function holds_text(holds)
    local parts = {}
    for key, hold in pairs(holds) do
        local values = {}
        for name, value in pairs(hold) do
            local shown_value = type(value) == 'number' and text(value) or cjson.encode(value)
            values[#values + 1] = cjson.encode(name) .. ': ' .. shown_value
        end
        parts[#parts + 1] = cjson.encode(key) .. ': {' .. table.concat(values, ', ') .. '}'
    end
    return '{' .. table.concat(parts, ', ') .. '}'
end

local function first_end(record)
    local first = record.owner and record.lease_until and tonumber(record.lease_until)
    if record.holds ~= '{}' then
        for _, hold in pairs(cjson.decode(record.holds)) do
            if hold['until'] ~= cjson.null and (not first or hold['until'] < first) then
                first = hold['until']
            end
        end
    end
    return first
end

local function put(set, name, score)
    if score then
        call('ZADD', base .. set, score, name)
    else
        call('ZREM', base .. set, name)
    end
end

local function when_free(owner, holds, moment)
    return not owner and holds == '{}' and moment
end

-- Bring the indexes in line with a record: what has changed since its values were *before*, or all of it.
local function index(name, record, before)
    local all, was = not before, {}
    for _, field in ipairs({'owner', 'holds', 'next_due', 'manual_at', 'lease_until'}) do
        was[field] = before and before[PLACE[field]]
    end
    for set, field in pairs({free = 'next_due', extra = 'manual_at'}) do
        local moment = when_free(record.owner, record.holds, record[field])
        if all or moment ~= when_free(was.owner, was.holds, was[field]) then
            put(set, name, moment)
        end
    end
    if all or record.owner ~= was.owner or record.lease_until ~= was.lease_until or record.holds ~= was.holds then
        local first = first_end(record)
        put('ends', name, first and text(first))
    end
    if record.owner and record.owner ~= was.owner then
        call('HSET', base .. 'claims', name, record.owner)
    elseif not record.owner and (all or was.owner) then
        call('HDEL', base .. 'claims', name)
    end
    if all or record.holds ~= was.holds then
        call(record.holds == '{}' and 'SREM' or 'SADD', base .. 'held', name)
    end
end

local function change_names()
    local made = call('HGET', base .. 'meta', 'made')
    call('HSET', base .. 'meta', 'made', stamp(made or 0), 'schema', '1')
end

local function write(name, record, before)
    local fields, gone = {}, {}
    for place, field in ipairs(FIELDS) do
        if before and record[field] == before[place] then
            -- It is stored already.
        elseif record[field] then
            fields[#fields + 1] = field
            fields[#fields + 1] = record[field]
        else
            gone[#gone + 1] = field
        end
    end
    -- First a command that a server without memory refuses: then nothing at all is changed.
    call('HSET', base .. 'task:' .. name, unpack(fields))
    if #gone > 0 then
        call('HDEL', base .. 'task:' .. name, unpack(gone))
    end
    if not before then
        call('ZADD', base .. 'names', 0, name)
        change_names()
    end
    index(name, record, before)
end

local function delete(name)
    call('DEL', base .. 'task:' .. name)
    for _, set in ipairs({'names', 'free', 'extra', 'ends'}) do
        call('ZREM', base .. set, name)
    end
    call('HDEL', base .. 'claims', name)
    call('SREM', base .. 'held', name)
    change_names()
end

-- Read the records with these names. One that somebody has removed by hand, or the server to free memory, is gone.
local function read_all(names)
    local found = {}
    for _, name in ipairs(names) do
        local record = read(name)
        if record then
            found[#found + 1] = shown(name, record)
        else
            delete(name)
        end
    end
    return found
end

-- --- the ledger ---

local function ending_of(row)
    return row[6] .. ' ' .. (row[7] ~= cjson.null and row[7] or '')
end

local function drop_row(name, place)
    local row = call('HGET', base .. 'rows', place)
    if row then
        call('ZREM', base .. 'ending:' .. ending_of(cjson.decode(row)), place)
    end
    call('HDEL', base .. 'rows', place)
    call('ZREM', base .. 'all', place)
    call('ZREM', base .. 'log:' .. name, place)
end

local function keep_rows(rows)
    for _, each in ipairs(rows) do
        local name, place, ending, row = unpack(each)
        if call('HSETNX', base .. 'rows', place, row) == 1 then
            local log = base .. 'log:' .. name
            call('ZADD', log, call('HINCRBY', base .. 'meta', 'seq', 1), place)
            call('ZADD', base .. 'all', 0, place)
            call('ZADD', base .. 'ending:' .. ending, 0, place)
            local number = call('ZCARD', log)
            if number == 1 then
                call('ZADD', base .. 'logs', 0, name)
            end
            local over = number - given.rows_kept
            if over > 0 then
                for _, old in ipairs(call('ZRANGE', log, 0, over - 1)) do
                    drop_row(name, old)
                end
            end
        end
    end
end

-- --- news ---

local function tell()
    call(given.news, base .. 'news', '.')
end

-- A Lua comparison of texts depends on the locale of the server.
local function is_before(one, other)
    for place = 1, math.min(#one, #other) do
        local a, b = string.byte(one, place), string.byte(other, place)
        if a ~= b then
            return a < b
        end
    end
    return #one < #other
end
