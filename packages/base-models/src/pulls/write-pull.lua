--- Writes the record of a pull and renews its lease; of one that has `ended` (1), ends it.
---
--- Returns `written`, `cancel` (written, and it is to stop), or `lost` (another puller has it).
--- @keys pulls open cancels lease
--- @args id record puller lease_ms ended

if redis.call('GET', lease) ~= puller then return 'lost' end
redis.call('HSET', pulls, id, record)
if ended == '1' then
  redis.call('SREM', open, id)
  redis.call('SREM', cancels, id)
  redis.call('DEL', lease)
  return 'written'
end
redis.call('PEXPIRE', lease, lease_ms)
return redis.call('SISMEMBER', cancels, id) == 1 and 'cancel' or 'written'
