-- One order of one piece after the other: wrk ... -- RUN SKU [SKU ...]
-- RUN makes the order ids unique; the SKU of each order is drawn evenly.

local number = 0
local run, skus = "", {}

function init(arguments)
  run = arguments[1]
  for position = 2, #arguments do
    skus[#skus + 1] = arguments[position]
  end
  math.randomseed(#skus)
end

function request()
  number = number + 1
  local sku = skus[math.random(#skus)]
  local body = '{"orderid":"' .. run .. '-' .. number .. '","sku":"' .. sku .. '","qty":1}'
  return "POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"refused":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"broken":%d}\n',
    summary.requests, errors.status, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout))
end
