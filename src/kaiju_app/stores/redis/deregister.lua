-- Record that an instance has left.
call('ZREM', base .. 'seen', given.me)
call('HDEL', base .. 'instances', given.me)
return answer(true)
