--- Client sessions, the models that they train op by op, and the results of these ops.
---
--- `clients` has, by session: `owner`, `record` (JSON), and `ended` (why) once it has ended. `beats` has the open ones by when they were
--- last heard of. `leftovers` are ended ones whose snapshots are not removed yet.
---
--- A model is a hash `model`: `owner`, `session`, `base`, `record` (JSON), `state`, `done` (the number of the last op that has a result; -1: it was
--- never opened), `kept` (the last op whose effect is kept in `parked`, or -1), `parked` (the snapshot that has the model; '' for none), `described`
--- (JSON of the open model), `reason` (why it has ended), `worker`, `used`. Its state is `waiting` (it is in `waiting`, for a worker), `open` (a
--- worker has it), `parked` (nobody has it, and nothing is to be done) or `ended`. What belongs to it lies under `model:pending` (bytes by number
--- of the ops that have no result), `model:op:N`, `model:result:N` and `model:claim` (the token of its worker).
--- @keys waiting
--- @include "~/redis/includes/common"

-- Some fields of a model.
local function fields_of(model, ...)
  return unpack(redis.call('HMGET', model, ...))
end

-- Lets a worker take the model, once `at_ms` is reached.
local function wait_for_worker(model, id, at_ms)
  redis.call('HSET', model, 'state', 'waiting')
  redis.call('ZADD', waiting, at_ms, id .. ' ' .. redis.call('HGET', model, 'base'))
end

-- Ends a model: its ops never have a result, and its worker closes it.
local function end_one(model, id, reason, keep_ms)
  if redis.call('HGET', model, 'state') == 'ended' then return end
  redis.call('HSET', model, 'state', 'ended', 'reason', reason)
  redis.call('ZREM', waiting, id .. ' ' .. redis.call('HGET', model, 'base'))
  for _, seq in ipairs(redis.call('HKEYS', model .. ':pending')) do redis.call('DEL', model .. ':op:' .. seq) end
  redis.call('DEL', model .. ':pending')
  -- While it has checkpoints, they are found by it.
  if redis.call('EXISTS', model .. ':checkpoints') == 0 then redis.call('PEXPIRE', model, keep_ms) end
end

-- Settles a model whose worker is lost: it waits again if no op was done since its state was kept.
local function settle_lost(model, id, reason, keep_ms)
  local state, done, kept, base = fields_of(model, 'state', 'done', 'kept', 'base')
  -- Its worker died just after it had taken it. One that has not begun yet does not mind another.
  if state == 'waiting' then redis.call('ZADD', waiting, 'NX', server_time_ms(), id .. ' ' .. base) end
  if state ~= 'open' or redis.call('EXISTS', model .. ':claim') == 1 then return end
  if done == kept then wait_for_worker(model, id, server_time_ms()) else end_one(model, id, reason, keep_ms) end
end

--- @script
--- Adds a session of a client. Returns `full` if `max_sessions` are open, or `created`.
--- @keys clients beats
--- @args session owner record max_sessions
local function begin_client()
  if redis.call('ZCARD', beats) >= tonumber(max_sessions) then return 'full' end
  redis.call('HSET', clients, session .. ':owner', owner, session, record)
  redis.call('ZADD', beats, server_time_ms(), session)
  return 'created'
end

--- @script
--- Notes that a client still is. Returns `ok`, or `ended`.
--- @keys beats
--- @args session
local function beat_client()
  if not redis.call('ZSCORE', beats, session) then return 'ended' end
  redis.call('ZADD', beats, server_time_ms(), session)
  return 'ok'
end

--- @script
--- Ends a session, and its models (their hashes are `rest_keys`, their ids `rest`). With `silent_ms` above 0 only if nothing was
--- heard of it for that long. Its record stays for `keep_ms`. Returns 1, or 0 if it goes on or has ended before.
--- @keys clients beats leftovers
--- @args session reason silent_ms keep_ms
local function end_client()
  local beat = tonumber(redis.call('ZSCORE', beats, session) or '')
  if not beat or server_time_ms() - beat < tonumber(silent_ms) then return 0 end
  redis.call('ZREM', beats, session)
  redis.call('HSET', clients, session .. ':ended', reason)
  redis.call('ZADD', leftovers, server_time_ms(), session)
  for at, model in ipairs(rest_keys) do end_one(model, rest[at], reason, keep_ms) end
  return 1
end

--- @script
--- Adds a model that waits for a worker. Returns `exists`, `full` if the owner has `max_models` that are not ended, `gone` if the session
--- has ended, or `created`.
--- @keys beats model of_owner of_session sequence_counter models
--- @args id session owner base record max_models channel notice
local function begin_model()
  if redis.call('EXISTS', model) == 1 then return 'exists' end
  if not redis.call('ZSCORE', beats, session) then return 'gone' end
  local unfinished = 0
  for _, other in ipairs(redis.call('ZRANGE', of_owner, 0, -1)) do
    local state = redis.call('HGET', models .. other, 'state')
    if not state then redis.call('ZREM', of_owner, other) elseif state ~= 'ended' then unfinished = unfinished + 1 end
  end
  if unfinished >= tonumber(max_models) then return 'full' end
  local now_ms = server_time_ms()
  redis.call(
    'HSET', model, 'owner', owner, 'session', session, 'base', base, 'record', record, 'done', -1, 'kept', -1, 'parked', '',
    'created', now_ms, 'used', now_ms
  )
  redis.call('ZADD', of_owner, redis.call('INCR', sequence_counter), id)
  redis.call('SADD', of_session, id)
  wait_for_worker(model, id, now_ms)
  redis.call('PUBLISH', channel, notice)
  return 'created'
end

--- @script
--- Adds an op of a model. Returns `exists` (it was added before), `full`, `ended`, `unknown` or `added`.
--- @keys model pending op result
--- @args id seq bytes body max_ops max_bytes lifetime_ms worker_channel notice op_channel
local function submit_op()
  local state, done = fields_of(model, 'state', 'done')
  if not state then return 'unknown' end
  if tonumber(seq) <= tonumber(done) or redis.call('EXISTS', op, result) > 0 then return 'exists' end
  if state == 'ended' then return 'ended' end
  if redis.call('HLEN', pending) >= tonumber(max_ops) then return 'full' end
  local sum = tonumber(bytes)
  for _, one in ipairs(redis.call('HVALS', pending)) do sum = sum + tonumber(one) end
  if sum > tonumber(max_bytes) then return 'full' end
  local now_ms = server_time_ms()
  redis.call('SET', op, body, 'PX', lifetime_ms)
  redis.call('HSET', pending, seq, bytes)
  redis.call('PEXPIRE', pending, lifetime_ms)
  redis.call('HSET', model, 'used', now_ms)
  if state == 'parked' and tonumber(seq) == tonumber(done) + 1 then
    wait_for_worker(model, id, now_ms)
    redis.call('PUBLISH', worker_channel, notice)
  end
  redis.call('PUBLISH', op_channel, id)
  return 'added'
end

--- @script
--- Tells how a model stands (`unknown` if there is no such one), and the reason of its end. One whose worker is lost waits or ends.
--- @keys model
--- @args id lost_reason keep_ms
local function look_at_model()
  settle_lost(model, id, lost_reason, keep_ms)
  local state, reason = fields_of(model, 'state', 'reason')
  return {state or 'unknown', reason or ''}
end

--- @script
--- Ends a model. Returns `ended`, or `unknown`.
--- @keys model
--- @args id reason keep_ms
local function end_model()
  if redis.call('EXISTS', model) == 0 then return 'unknown' end
  end_one(model, id, reason, keep_ms)
  return 'ended'
end

--- @script
--- Writes a checkpoint (JSON) of a model, which expires at `expires_ms` unless that is ''. With an `expected` that is not '', only if it is still
--- that. Returns what was there before, '' for nothing; `changed` if it was another.
--- @keys model checkpoints expiring
--- @args field value member expires_ms expected
local function write_checkpoint()
  local before = redis.call('HGET', checkpoints, field) or ''
  if expected ~= '' and before ~= expected then return 'changed' end
  redis.call('HSET', checkpoints, field, value)
  if expires_ms == '' then redis.call('ZREM', expiring, member) else redis.call('ZADD', expiring, expires_ms, member) end
  redis.call('PERSIST', model)
  return before
end

--- @script
--- Removes the record of a checkpoint. A model that has ended, and has no other, is kept for `keep_ms`.
--- @keys model checkpoints expiring
--- @args field member keep_ms
local function forget_checkpoint()
  redis.call('HDEL', checkpoints, field)
  redis.call('ZREM', expiring, member)
  if redis.call('EXISTS', checkpoints) == 0 and redis.call('HGET', model, 'state') == 'ended' then
    redis.call('PEXPIRE', model, keep_ms)
  end
end

--- @script
--- Takes the model that has waited longest, of this base or (`base` is '') of any. Returns its id, or nothing.
--- @args base
local function take_waiting()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', server_time_ms())) do
    local space = string.find(member, ' ', 1, true)
    if base == '' or string.sub(member, space + 1) == base then
      redis.call('ZREM', waiting, member)
      return string.sub(member, 1, space - 1)
    end
  end
  return nil
end

--- @script
--- Begins the work on a model that was taken. Returns its fields, or nothing if it does not wait any more.
--- @keys model claim
--- @args token worker claim_ms
local function claim_model()
  if redis.call('HGET', model, 'state') ~= 'waiting' then return {} end
  redis.call('HSET', model, 'state', 'open', 'worker', worker)
  redis.call('SET', claim, token, 'PX', claim_ms)
  return redis.call('HGETALL', model)
end

--- @script
--- Renews the claim. Returns `lost`, `ended` (the model has ended, and is to be closed), or `ok`.
--- @keys model claim
--- @args token claim_ms
local function renew_model()
  if redis.call('GET', claim) ~= token then return 'lost' end
  if redis.call('HGET', model, 'state') ~= 'open' then return 'ended' end
  redis.call('PEXPIRE', claim, claim_ms)
  return 'ok'
end

--- @script
--- Writes the result of an op, the one after `done`. Returns `lost` if another worker has the model, or `done`.
--- @keys model claim pending op result
--- @args id seq token body lifetime_ms channel described
local function end_op()
  if redis.call('GET', claim) ~= token then return 'lost' end
  redis.call('SET', result, body, 'PX', lifetime_ms)
  redis.call('DEL', op)
  redis.call('HDEL', pending, seq)
  redis.call('HSET', model, 'done', seq)
  -- A model that has only been opened is opened again in the same state.
  if tonumber(seq) == 0 then redis.call('HSET', model, 'kept', 0) end
  if described ~= '' then redis.call('HSET', model, 'described', described) end
  redis.call('PUBLISH', channel, id .. ':' .. seq)
  return 'done'
end

--- @script
--- Gives a model back. With `snapshot` it is kept there as it is now; '' leaves it where it was. It waits for a worker again, after `delay_ms`,
--- if its next op is there or it was never opened; else it is parked. Returns `lost`, `ended`, or the snapshot that is not needed any more.
--- @keys model claim
--- @args id token snapshot delay_ms worker_channel notice
local function give_back_model()
  if redis.call('GET', claim) ~= token then return 'lost' end
  redis.call('DEL', claim)
  local state, done, before = fields_of(model, 'state', 'done', 'parked')
  if state ~= 'open' then return 'ended' end
  if snapshot ~= '' then redis.call('HSET', model, 'parked', snapshot, 'kept', done) else before = '' end
  if tonumber(done) < 0 or redis.call('EXISTS', model .. ':op:' .. (tonumber(done) + 1)) == 1 then
    wait_for_worker(model, id, server_time_ms() + delay_ms)
    redis.call('PUBLISH', worker_channel, notice)
  else
    redis.call('HSET', model, 'state', 'parked')
  end
  return before
end

--- @script
--- Ends a model that its worker cannot continue, with a reason. Returns `lost`, or `ended`.
--- @keys model claim
--- @args id token reason keep_ms channel
local function fail_model()
  if redis.call('GET', claim) ~= token then return 'lost' end
  local done = tonumber(redis.call('HGET', model, 'done'))
  end_one(model, id, reason, keep_ms)
  redis.call('DEL', claim)
  redis.call('PUBLISH', channel, id .. ':' .. (done + 1))
  return 'ended'
end
