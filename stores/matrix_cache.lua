-- Put matrices into the cache, each unless what is there is newer, or the same. All of a commit, or none.
--
-- KEYS[i]    a matrix' key
-- ARGV[1]    for how long each is kept, ms
-- ARGV[i+1]  its envelope (agents/rho/envelope.py): SRHO, at byte 16 the version, 8 bytes, at 28 the CRC, 4 bytes
--
-- Returns for each the head (32 bytes) of what is newer and stays, else ''. Of the same version with another CRC what
-- comes is right: PostgreSQL went back in time, and gave the version again. What isn't an envelope is replaced.
local function version_of(envelope)
  if type(envelope) ~= 'string' or #envelope < 32 or string.sub(envelope, 1, 4) ~= 'SRHO' then
    return -1
  end
  return (struct.unpack('<I8', string.sub(envelope, 17, 24)))
end
local newer = {}
for i, key in ipairs(KEYS) do
  local envelope = ARGV[i + 1]
  local found = redis.pcall('GETRANGE', key, 0, 31)
  local has, comes = version_of(found), version_of(envelope)
  newer[i] = has > comes and found or ''
  if has < comes or (has == comes and string.sub(found, 29, 32) ~= string.sub(envelope, 29, 32)) then
    redis.call('SET', key, envelope, 'PX', ARGV[1])
  end
end
return newer
