-- Answer the schema of what is stored. Who may change it also tries each kind of command, so that a missing right shows
-- at the start, and records the schema where nothing is stored yet.
local schema = call('HGET', base .. 'meta', 'schema') or ''
if given.only_looks or schema ~= '' and tonumber(schema) > given.schema then
    return answer(schema)
end
local scratch = base .. 'scratch'
call('DEL', scratch) -- A check that failed in the middle leaves another type there.
call('HSET', scratch, 'a', '1', 'b', '2')
call('HSETNX', scratch, 'a', '1')
call('HINCRBY', scratch, 'a', 1)
call('HMGET', scratch, 'a', 'b')
call('HGETALL', scratch)
call('HKEYS', scratch)
call('HDEL', scratch, 'a')
call('PEXPIRE', scratch, 60000)
call('PTTL', scratch)
call('DEL', scratch)
call('ZADD', scratch, 0, 'a')
call('ZSCORE', scratch, 'a')
call('ZCARD', scratch)
call('ZRANGE', scratch, 0, 0)
call('ZREVRANGE', scratch, 0, 0)
call('ZRANGEBYSCORE', scratch, 0, 0)
call('ZRANGEBYLEX', scratch, '-', '+')
call('ZREVRANGEBYLEX', scratch, '+', '-')
call('ZREM', scratch, 'a')
call('SADD', scratch, 'a')
call('SMEMBERS', scratch)
call('SREM', scratch, 'a')
call(given.news, base .. 'news', '')
if schema == '' then
    call('HSET', base .. 'meta', 'schema', text(given.schema))
end
return answer(text(given.schema))
