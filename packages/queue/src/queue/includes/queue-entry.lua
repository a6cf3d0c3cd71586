--- The QueueEntry of the job `id`, and the log of changes of entries (see QueueCopy).
--- @keys queue_entries queue_changes
--- @args id

-- The approximate number of changes that are kept for processes that read the queue seldom. One that missed some reads everything.
local kept_changes = 5000

-- Writes the entry of the job, as JSON; removes it if the text is ''.
local function write_entry(text)
  if text == '' then
    redis.call('HDEL', queue_entries, id)
  else
    redis.call('HSET', queue_entries, id, text)
  end
  redis.call('XADD', queue_changes, 'MAXLEN', '~', kept_changes, '*', 'id', id, 'entry', text)
end
