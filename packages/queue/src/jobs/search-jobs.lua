--- The search in the list of jobs.

--- @script
--- Looks at the next `count` jobs of an index, newest first. '' as an argument is no condition; `rest` are tags.
---
--- Returns the score of the last job that was looked at ('' if there are no further ones), then id, sequence and
--- sweep of each that matches.
--- @keys index search_facts status_jobs
--- @args before count status q name base_model dataset sweep created_from created_before
local function search_jobs()
  local entries = redis.call('ZREVRANGEBYSCORE', index, before, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
  local looked_at = #entries / 2
  local found = {looked_at < tonumber(count) and '' or entries[#entries]}
  if looked_at == 0 then return found end
  local ids = {}
  for number = 1, looked_at do ids[number] = entries[2 * number - 1] end

  -- What jobs are found by, under their ids and a suffix; nil where no condition needs it.
  local function facts_of(suffix, is_needed)
    if not is_needed then return nil end
    local fields = {}
    for number = 1, looked_at do fields[number] = ids[number] .. suffix end
    return redis.call('HMGET', search_facts, unpack(fields))
  end
  local facts = redis.call('HMGET', search_facts, unpack(ids))
  local names = facts_of(':name', name ~= '' or q ~= '')
  local tags = facts_of(':tags', #rest > 0 or q ~= '')
  local has_status = status ~= '' and redis.call('ZMSCORE', status_jobs, unpack(ids))
  local from, to = tonumber(created_from), tonumber(created_before)
  local find, match = string.find, string.match

  -- Lines that the facts must have.
  local lines = {}
  for key, value in pairs({model = base_model, dataset = dataset, sweep = sweep}) do
    if value ~= '' then lines[#lines + 1] = '\n' .. key .. ' ' .. value .. '\n' end
  end

  local function matches(number, text)
    -- One that is deleted at this moment has no facts.
    if not text or (has_status and not has_status[number]) then return false end
    for _, line in ipairs(lines) do
      if not find(text, line, 1, true) then return false end
    end
    if from or to then
      local created = tonumber(match(text, '\ncreated (%d+)\n'))
      if (from and created < from) or (to and created >= to) then return false end
    end
    local own_name, own_tags = names and names[number] or '', tags and tags[number] or ''
    if name ~= '' and not find(own_name, name, 1, true) then return false end
    for _, tag in ipairs(rest) do
      if not find(own_tags, '\n' .. tag .. '\n', 1, true) then return false end
    end
    return q == '' or find(own_name, q, 1, true) or find(ids[number], q, 1, true) or find(own_tags, q, 1, true)
      or find(string.lower(match(text, '\nmodel (.-)\n')), q, 1, true) or find(match(text, '\ndataset (.-)\n'), q, 1, true)
  end

  local size = 1
  for number = 1, looked_at do
    local text = facts[number]
    if matches(number, text) then
      found[size + 1], found[size + 2] = ids[number], entries[2 * number]
      found[size + 3] = match(text, '\nsweep (.-)\n')
      size = size + 3
    end
  end
  return found
end
