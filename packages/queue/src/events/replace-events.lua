--- Thinned events of a job that has ended.

--- @script
--- Replaces the events by their copy, unless the job was resumed, deleted or ended once more since they were
--- read. A reader continues after any id that it has seen, whether or not that event was kept.
--- @keys record events copy events_to_thin
--- @args id last_event ended_statuses
--- @include "~/redis/includes/common"
local function replace_events()
  local status = redis.call('HGET', record, 'status')
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  local is_ended = status and is_one_of(status, ended_statuses)
  if not is_ended or not last or last[1] ~= last_event then
    redis.call('DEL', copy)
    return 0
  end
  redis.call('RENAME', copy, events)
  redis.call('PERSIST', events)
  redis.call('ZREM', events_to_thin, id)
  return 1
end
