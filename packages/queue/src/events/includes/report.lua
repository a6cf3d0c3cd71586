--- Reports of a change: as an event, and the end of a job or a sweep as webhooks. They read the local `now_ms`.
--- @keys webhooks_due webhook_messages webhook_for_all
--- @args event_channel max_events

-- Appends an event to a stream, and notifies those that wait for it. Returns its id.
local function add_event(stream, subject, event_type, data)
  local event_id = redis.call('XADD', stream, 'MAXLEN', '~', max_events, '*', 'type', event_type, 'data', data)
  redis.call('PUBLISH', event_channel, subject)
  return event_id
end

-- Adds the webhooks that report the end of a job or a sweep (the kind) to those that are to be sent: to its own address, nil for
-- none, and to that of the service.
local function add_webhooks(kind, subject, event_id, own_url, message)
  local targets = {[kind] = own_url}
  if redis.call('EXISTS', webhook_for_all) == 1 then targets.all = '' end
  message.ended_ms = now_ms
  for target, url in pairs(targets) do
    message.url = url
    local webhook =
      'whk_' .. target .. '_' .. string.match(subject, '_(.*)') .. '_' .. string.gsub(event_id, '-', '_')
    redis.call('HSET', webhook_messages, webhook, cjson.encode(message))
    redis.call('ZADD', webhooks_due, now_ms, webhook)
  end
end
