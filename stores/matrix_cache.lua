-- Put matrices into the cache, each unless what is there is as new. All of a commit, or none.
--
-- KEYS[i]    a matrix' key
-- ARGV[1]    for how long each is kept, ms
-- ARGV[i+1]  its envelope (agents/rho/envelope.py): SRHO, and at byte 16 the version, 8 bytes
--
-- Returns how many were put. What isn't an envelope is replaced.
local function version_of(envelope)
  if type(envelope) ~= 'string' or #envelope < 32 or string.sub(envelope, 1, 4) ~= 'SRHO' then
    return -1
  end
  return (struct.unpack('<I8', string.sub(envelope, 17, 24)))
end
local put = 0
for i, key in ipairs(KEYS) do
  local envelope = ARGV[i + 1]
  if version_of(redis.pcall('GETRANGE', key, 0, 31)) < version_of(envelope) then
    redis.call('SET', key, envelope, 'PX', ARGV[1])
    put = put + 1
  end
end
return put
