--- Returns the unfinished jobs that read the input. If there are none, no job can start to read it for `seconds`.
--- @keys input_jobs input_deletion
--- @args seconds

local readers = redis.call('SMEMBERS', input_jobs)
if #readers == 0 then redis.call('SET', input_deletion, '1', 'EX', seconds) end
return readers
