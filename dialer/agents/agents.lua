-- Everything that changes an agent, atomically.
--
-- KEYS[1]  the prefix of all our keys
-- ARGV[1]  the verb; ARGV[2] now, in milliseconds; the rest by verb:
--   set      EXTENSION FIELD VALUE ...        sets facts                        -> state
--   claim    CAMPAIGN SWITCH LEASE_MS TOKEN ...   the longest idle agents, to the tokens in their order
--            -> {{extension, leg, phones}, ...}, one for each token until none is idle
--            a token that already holds an agent gets the same one again
--   claim_named CAMPAIGN SWITCH LEASE_MS TOKEN EXTENSION ...   for each token exactly that agent, if idle there
--            -> {{extension, leg, phones} or {}, ...}, one for each token
--            a token that already holds an agent gets the same one again
--   bridged  TOKEN LEASE_MS                   the claim became a conversation   -> 1, or 0 if the claim is gone
--   renew    LEASE_MS TOKEN ...               longer leases                     -> how many were still held
--   release  TOKEN WRAP_MS LOST_LEG           gives the agent back, without that leg  -> extension, or "" if not held
--   sweep    [0]                              ends wrap-ups and, without the 0, dead leases  -> {mark, {extension, state, ...} freed, tokens expired...}
--   count    CAMPAIGN SWITCH                  how many are idle                 -> number
--   idle     CAMPAIGN SWITCH                  who is idle, the longest first    -> {extension, ...}
--   restore  MARK LEASE_MS JSON               puts back what a daemon knows, see below  -> the mark that stands
--
-- A Redis that was restarted without its data knows nothing, and must not be believed: every verb is refused (EMPTY)
-- while there is no mark. `restore` sets it, together with all agents and claims. Its JSON is
-- {"agents": {EXT: {FACT: VALUE}}, "claims": {TOKEN: {"extension": EXT, "bridged": "1" or ""}}}; agents that are
-- known here are left as they are, but for those of the claims.
--
-- Keys: PREFIXmark, PREFIXagents (set of extensions), PREFIXagent:EXT (hash of facts), PREFIXidle:CAMPAIGN:SWITCH (sorted by
-- idle since), PREFIXclaims (hash token -> extension), PREFIXleases (tokens sorted by end), PREFIXwrap_up (extensions
-- sorted by end). `last_call` of an agent is the token of the latest conversation, `last_call_ended_ms` when it was
-- over, 0 while it is not. A change of state is published on PREFIXagents as "EXT STATE".

local prefix, verb, now = KEYS[1], ARGV[1], tonumber(ARGV[2])

local function agent_key(extension) return prefix .. 'agent:' .. extension end

-- The same derivation as agents/agent.py `state_of`.
local function state_of(a)
  if a.token and a.token ~= '' then return a.bridged == '1' and 'on_call' or 'reserved' end
  if (a.wants or 'logout') == 'logout' or (a.switch or '') == '' then return 'offline' end
  if tonumber(a.other_calls or '0') > 0 then return 'on_call' end
  if tonumber(a.wrap_until_ms or '0') > 0 then return 'wrap_up' end
  local leg_here = (a.leg or '') ~= '' and a.leg_switch == a.switch
  if a.wants == 'pause' then return 'paused' end
  return (a.phones or 'nailed_up') == 'nailed_up' and not leg_here and 'offline' or 'idle'
end

local function facts(extension)
  local flat, a = redis.call('HGETALL', agent_key(extension)), {}
  for i = 1, #flat, 2 do a[flat[i]] = flat[i + 1] end
  return a
end

-- Writes facts, then brings the state and the idle queue in line with them.
local function settle(extension, changes)
  local key, before = agent_key(extension), facts(extension)
  if #changes > 0 then redis.call('HSET', key, unpack(changes)) end
  local after = facts(extension)
  local state = state_of(after)
  if before.idle_queue and before.idle_queue ~= '' then redis.call('ZREM', before.idle_queue, extension) end
  local queue = ''
  if state == 'idle' then
    queue = prefix .. 'idle:' .. (after.campaign or '') .. ':' .. after.switch
    local since = now
    if before.state == 'idle' and before.idle_queue == queue then since = tonumber(before.idle_since_ms) end
    redis.call('ZADD', queue, since, extension)
    redis.call('HSET', key, 'idle_since_ms', since)
  end
  redis.call('HSET', key, 'idle_queue', queue, 'state', state)
  redis.call('SADD', prefix .. 'agents', extension)
  if before.state ~= state then
    redis.call('HSET', key, 'since_ms', now)
    redis.call('PUBLISH', prefix .. 'agents', extension .. ' ' .. state)
  end
  return state
end

local function release(token, wrap_ms, lost_leg)
  local extension = redis.call('HGET', prefix .. 'claims', token)
  redis.call('HDEL', prefix .. 'claims', token)
  redis.call('ZREM', prefix .. 'leases', token)
  if not extension then return '' end
  if redis.call('HGET', agent_key(extension), 'token') ~= token then return '' end
  local changes = {'token', '', 'bridged', '', 'lease_until_ms', '0'}
  -- Nobody may have told us of the bridge; but only those who talked have anything to wrap up.
  if wrap_ms > 0 or redis.call('HGET', agent_key(extension), 'bridged') == '1' then
    for _, word in ipairs({'last_call', token, 'last_call_ended_ms', tostring(now)}) do changes[#changes + 1] = word end
  end
  if wrap_ms > 0 then
    changes[#changes + 1] = 'wrap_until_ms'
    changes[#changes + 1] = tostring(now + wrap_ms)
    redis.call('ZADD', prefix .. 'wrap_up', now + wrap_ms, extension)
  end
  -- The keeper may have rung another one meanwhile.
  if lost_leg ~= '' and redis.call('HGET', agent_key(extension), 'leg') == lost_leg then
    changes[#changes + 1] = 'leg'
    changes[#changes + 1] = ''
  end
  settle(extension, changes)
  return extension
end

-- Holds `extension` for `token`, or holds it longer.
local function grant(token, extension, lease_ms)
  if redis.call('HGET', prefix .. 'claims', token) ~= extension then
    settle(extension, {'token', token, 'bridged', ''})
    redis.call('HSET', prefix .. 'claims', token, extension)
  end
  redis.call('ZADD', prefix .. 'leases', now + lease_ms, token)
  redis.call('HSET', agent_key(extension), 'lease_until_ms', tostring(now + lease_ms))
  local found = redis.call('HMGET', agent_key(extension), 'leg', 'phones')
  return {extension, found[1] or '', found[2] or 'nailed_up'}
end

if verb == 'restore' then
  local wanted, lease_ms = cjson.decode(ARGV[5]), tonumber(ARGV[4])
  for extension, known in pairs(wanted.agents) do
    if redis.call('HEXISTS', agent_key(extension), 'wants') == 0 then
      local changes = {}
      for name, value in pairs(known) do
        changes[#changes + 1] = name
        changes[#changes + 1] = value
      end
      settle(extension, changes)
    end
  end
  for token, claim in pairs(wanted.claims) do
    local holder = redis.call('HGET', agent_key(claim.extension), 'token')
    if not holder or holder == '' or holder == token then
      redis.call('HSET', prefix .. 'claims', token, claim.extension)
      redis.call('ZADD', prefix .. 'leases', now + lease_ms, token)
      local changes = {'token', token, 'bridged', claim.bridged, 'lease_until_ms', tostring(now + lease_ms)}
      if claim.bridged == '1' then
        for _, word in ipairs({'last_call', token, 'last_call_ended_ms', '0'}) do changes[#changes + 1] = word end
      end
      settle(claim.extension, changes)
    end
  end
  redis.call('SETNX', prefix .. 'mark', ARGV[3])
  return redis.call('GET', prefix .. 'mark')
end

if redis.call('EXISTS', prefix .. 'mark') == 0 then return redis.error_reply('EMPTY it has lost its data') end

if verb == 'set' then
  local changes = {}
  for i = 4, #ARGV do changes[#changes + 1] = ARGV[i] end
  return settle(ARGV[3], changes)

elseif verb == 'claim' then
  local queue, lease_ms, granted = prefix .. 'idle:' .. ARGV[3] .. ':' .. ARGV[4], tonumber(ARGV[5]), {}
  for i = 6, #ARGV do
    local extension = redis.call('HGET', prefix .. 'claims', ARGV[i]) or redis.call('ZRANGE', queue, 0, 0)[1]
    if not extension then return granted end
    granted[#granted + 1] = grant(ARGV[i], extension, lease_ms)
  end
  return granted

elseif verb == 'claim_named' then
  local queue, lease_ms, granted = prefix .. 'idle:' .. ARGV[3] .. ':' .. ARGV[4], tonumber(ARGV[5]), {}
  for i = 6, #ARGV, 2 do
    local extension = redis.call('HGET', prefix .. 'claims', ARGV[i])
    if not extension and redis.call('ZSCORE', queue, ARGV[i + 1]) then extension = ARGV[i + 1] end
    granted[#granted + 1] = extension and grant(ARGV[i], extension, lease_ms) or {}
  end
  return granted

elseif verb == 'bridged' then
  local token, lease_ms = ARGV[3], tonumber(ARGV[4])
  local extension = redis.call('HGET', prefix .. 'claims', token)
  if not extension then return 0 end
  redis.call('ZADD', prefix .. 'leases', now + lease_ms, token)
  if redis.call('HGET', agent_key(extension), 'bridged') ~= '1' then
    redis.call('HINCRBY', agent_key(extension), 'calls_taken', 1)
  end
  settle(extension, {
    'bridged', '1', 'lease_until_ms', tostring(now + lease_ms), 'last_call', token, 'last_call_ended_ms', '0'
  })
  return 1

elseif verb == 'renew' then
  local held = 0
  for i = 4, #ARGV do
    local extension = redis.call('HGET', prefix .. 'claims', ARGV[i])
    if extension then
      redis.call('ZADD', prefix .. 'leases', now + tonumber(ARGV[3]), ARGV[i])
      redis.call('HSET', agent_key(extension), 'lease_until_ms', tostring(now + tonumber(ARGV[3])))
      held = held + 1
    end
  end
  return held

elseif verb == 'release' then
  return release(ARGV[3], tonumber(ARGV[4]), ARGV[5])

elseif verb == 'sweep' then
  local freed, answer = {}, {redis.call('GET', prefix .. 'mark'), 0}
  for _, extension in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'wrap_up', '-inf', now)) do
    redis.call('ZREM', prefix .. 'wrap_up', extension)
    local ends = tonumber(redis.call('HGET', agent_key(extension), 'wrap_until_ms') or '0')
    if ends > 0 and ends <= now then
      freed[#freed + 1] = extension
      freed[#freed + 1] = settle(extension, {'wrap_until_ms', '0'})
    end
  end
  local ended = ARGV[3] ~= '0' and redis.call('ZRANGEBYSCORE', prefix .. 'leases', '-inf', now) or {}
  for _, token in ipairs(ended) do
    -- Whoever held it is dead: what became of the leg nobody knows, so it is not trusted with another person.
    local extension = redis.call('HGET', prefix .. 'claims', token)
    release(token, 0, extension and redis.call('HGET', agent_key(extension), 'leg') or '')
    answer[#answer + 1] = token
  end
  answer[2] = freed
  return answer

elseif verb == 'count' then
  return redis.call('ZCARD', prefix .. 'idle:' .. ARGV[3] .. ':' .. ARGV[4])

elseif verb == 'idle' then
  return redis.call('ZRANGE', prefix .. 'idle:' .. ARGV[3] .. ':' .. ARGV[4], 0, -1)
end

return redis.error_reply('no such verb: ' .. verb)
