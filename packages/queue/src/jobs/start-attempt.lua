--- Assigns an unfinished job to the worker that received it from BullMQ. From here on only the new token may
--- write to the record; the token of the previous worker is stale. If it is sent again because its reply was
--- lost, it changes nothing.
---
--- `expected_resumes` is how often the job had been resumed when it was queued ('' for any). `worker` is JSON.
--- Returns the number of the attempt, or `missing`, `resumed` (the job has a newer queue entry), `cancelled` or
--- `paused` (a pending cancel or pause is now done), or the status of the job, which has ended or is paused.
--- @args token worker now expected_resumes
--- @include "includes/job"

local status, resumes, current_token, attempts =
  unpack(redis.call('HMGET', record, 'status', 'resumes', 'attempt_token', 'attempts'))
if not status then return 'missing' end
if current_token == token then return tonumber(attempts) end
if expected_resumes ~= '' and resumes ~= expected_resumes then return 'resumed' end
if is_ended[status] or status == 'paused' then return status end
if redis.call('HEXISTS', record, 'cancel_requested_at') == 1 then
  move('cancelled')
  redis.call('HSET', record, 'ended_at', now)
  append_event('job-cancelled', '{}')
  return 'cancelled'
end
-- Its worker has died before it could pause the job.
if redis.call('HEXISTS', record, 'pause_requested_at') == 1 then
  pause()
  return 'paused'
end
-- The worker of the attempt before has died, or was out of reach for too long, or the attempt would have been released.
if status ~= 'queued' then redis.call('HINCRBY', record, 'deaths', 1) end
move('preparing')
charge(redis.call('HGET', record, 'owner') or '', tokens_of_start)
local attempt = redis.call('HINCRBY', record, 'attempts', 1)
redis.call('HSET', record, 'attempt_token', token)
redis.call('HSETNX', record, 'started_at', now)
redis.call('HDEL', record, 'publishing', 'starts_alone')
-- How much time is left is known again after the first step. Decoded and encoded again, the numbers would be rounded.
local progress = redis.call('HGET', record, 'progress')
if progress then
  redis.call('HSET', record, 'progress', (progress:gsub('"seconds_left":[^,}]+', '"seconds_left":null')))
end
append_event('job-started', '{"attempt":' .. attempt .. ',"worker":' .. worker .. '}')
return attempt
