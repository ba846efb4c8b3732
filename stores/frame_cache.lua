-- Put a frame into the cache unless what is there is newer.
--
-- KEYS[1]  the tenant's key
-- ARGV[1]  the frame, JSON with a field "place": {topic_id, partition, offset, log_ms}
-- ARGV[2]  place.topic_id      ARGV[3]  place.offset      ARGV[4]  place.log_ms
-- ARGV[5]  the moment (ms since 1970, the store's clock) from which the frame is no longer shown
--
-- Returns 'written', 'older' or 'expired'.
--
-- Of one topic the greater offset is the newer frame; a recreated topic (another id) starts its
-- offsets again, so between topics the broker's time decides. A frame expires by its own time, not by
-- the time of writing: one that arrives late isn't shown as fresh, and when the newest has expired,
-- every older one has expired too, so an empty key lets nothing old in.
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if tonumber(ARGV[5]) <= now_ms then
  return 'expired'
end
local held = redis.call('GET', KEYS[1])
if held then
  local readable, frame = pcall(cjson.decode, held)
  local place = readable and type(frame) == 'table' and frame['place']
  if type(place) == 'table' then
    if place['topic_id'] == ARGV[2] then
      if (tonumber(place['offset']) or -1) >= tonumber(ARGV[3]) then
        return 'older'
      end
    elseif (tonumber(place['log_ms']) or -1) >= tonumber(ARGV[4]) then
      return 'older'
    end
  end
end
-- (A frame of a broker whose clock was ahead isn't shown for longer than any other.)
local until_ms = math.min(tonumber(ARGV[5]), now_ms + tonumber(ARGV[5]) - tonumber(ARGV[4]))
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', string.format('%d', until_ms))
return 'written'
