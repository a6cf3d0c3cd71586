/** About so many changes of entries are kept for processes that read the queue seldom. One that missed some reads everything. */
const KEPT_CHANGES = 5_000;

/** A Lua function that changes the QueueEntry of a job, together with the log of these changes (see QueueCopy). */
export const ENTRY_FUNCTIONS = /* lua */ `
-- Writes the entry of the job, as JSON; removes it if the text is ''.
local function write_entry(text)
  if text == '' then
    redis.call('HDEL', queue_entries, id)
  else
    redis.call('HSET', queue_entries, id, text)
  end
  redis.call('XADD', queue_changes, 'MAXLEN', '~', ${KEPT_CHANGES}, '*', 'id', id, 'entry', text)
end
`;
