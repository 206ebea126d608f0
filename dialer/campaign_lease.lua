-- Which daemon runs a campaign.
--
-- KEYS[1]  the lease
-- ARGV[1]  the verb, ARGV[2] the daemon's name, ARGV[3] the lease's length in milliseconds
--   hold      takes the lease if it is free, renews it if it is ours   -> 1, or 0 if another has it
--   give_up   lets go of it if it is ours                              -> 1 or 0

local holder = redis.call('GET', KEYS[1])
if ARGV[1] == 'hold' then
  if holder and holder ~= ARGV[2] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
if holder == ARGV[2] then return redis.call('DEL', KEYS[1]) end
return 0
