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

--- @script
--- Records that a job is not taken before a time. Returns 0 if the queue has no entry for it.
--- @args not_before
local function delay_entry()
  local text = redis.call('HGET', queue_entries, id)
  if not text then return 0 end
  local entry = cjson.decode(text)
  entry.not_before = tonumber(not_before)
  write_entry(cjson.encode(entry))
  return 1
end
