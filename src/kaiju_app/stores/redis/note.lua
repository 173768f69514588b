-- Keep with a life what has happened to the instance.
if call('ZSCORE', base .. 'lives', given.me) then
    call('HSET', base .. 'notes', given.me, given.note)
end
return answer(true)
