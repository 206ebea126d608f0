-- A trunk's slots and its rate, atomically, for all campaigns and all daemons.
--
-- KEYS[1]  the slots of one gateway: attempts' uuids, sorted by the end of their lease
-- KEYS[2]  its token bucket: hash of `tokens` and `at_ms`
-- ARGV[1]  the verb; ARGV[2] now, in milliseconds; the rest by verb:
--   take     CONCURRENCY CALLS_PER_SECOND LEASE_MS UUID ...   -> how many of the uuids got a slot, from the first on
--   adopt    LEASE_MS UUID ...                                holds slots whatever the limit; also renews  -> how many
--   release  UUID ...                                         -> how many were held
--   unused   UUID ...                                         releases, and the rate gets its calls back  -> how many
--   used                                                      -> how many are in use

local slots, bucket, verb, now = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])

if verb == 'take' then
  local limit, rate, lease_ms, wanted = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), #ARGV - 5
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  local found = redis.call('HMGET', bucket, 'tokens', 'at_ms')
  -- A bucket holds one second's calls, and never less than one call.
  local size = math.max(1, rate)
  local tokens = math.min(size, tonumber(found[1] or size) + math.max(0, now - tonumber(found[2] or now)) * rate / 1000)
  -- The client asks again when an answer was lost: what these uuids hold already is theirs, and paid for.
  local again = 0
  for i = 6, #ARGV do if redis.call('ZSCORE', slots, ARGV[i]) then again = again + 1 end end
  local room = math.min(limit - redis.call('ZCARD', slots), math.floor(tokens))
  local granted = math.min(wanted, again + math.max(0, room))
  for i = 1, granted do redis.call('ZADD', slots, now + lease_ms, ARGV[5 + i]) end
  redis.call('HSET', bucket, 'tokens', tostring(tokens - math.max(0, granted - again)), 'at_ms', now)
  return granted

elseif verb == 'adopt' then
  for i = 4, #ARGV do redis.call('ZADD', slots, now + tonumber(ARGV[3]), ARGV[i]) end
  return #ARGV - 3

elseif verb == 'release' or verb == 'unused' then
  local released = 0
  for i = 3, #ARGV do released = released + redis.call('ZREM', slots, ARGV[i]) end
  if verb == 'unused' then redis.call('HINCRBYFLOAT', bucket, 'tokens', released) end
  return released

elseif verb == 'used' then
  return redis.call('ZCOUNT', slots, '(' .. now, '+inf')
end

return redis.error_reply('no such verb: ' .. verb)
