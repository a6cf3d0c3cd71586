--- Tokens of the Hugging Face hub, by their owner: sealed, and in `owner:key` the API key that stored them.

--- @script
--- Stores the token of an owner, unless the key that stores it has been revoked (`key` is '' without one). Returns `stored` or `revoked`.
--- @keys tokens revocations
--- @args owner key sealed
local function store_hub_token()
  if key ~= '' and redis.call('HEXISTS', revocations, key) == 1 then return 'revoked' end
  redis.call('HSET', tokens, owner, sealed, owner .. ':key', key)
  return 'stored'
end

--- @script
--- Revokes a key, and removes the token that it has stored. Only the first revocation counts.
--- @keys tokens revocations
--- @args owner key revoked_at
local function revoke_key()
  redis.call('HSETNX', revocations, key, revoked_at)
  if redis.call('HGET', tokens, owner .. ':key') == key then redis.call('HDEL', tokens, owner, owner .. ':key') end
  return 1
end
