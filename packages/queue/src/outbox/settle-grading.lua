--- Ends a grading with its outcome, kept for `kept_ms`; not one that nobody waits for any more.
--- @keys gradings_due grading_messages grading_outcome
--- @args id outcome kept_ms channel

redis.call('ZREM', gradings_due, id)
if redis.call('HDEL', grading_messages, id, id .. ':attempts') == 0 then return 0 end
redis.call('SET', grading_outcome, outcome, 'PX', kept_ms)
redis.call('PUBLISH', channel, id)
return 1
