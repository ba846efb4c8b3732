-- Take a matrix out of the cache, if it is still that one.
--
-- KEYS[1]  its key
-- ARGV[1]  how it begins: the head of its envelope, or all of what is shorter
if redis.pcall('GETRANGE', KEYS[1], 0, 31) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
