-- Requests for wrk: the chat in the file BODY, from a hundred accounts in turn. Prints one line of
-- JSON at the end: requests, errors, and microseconds in total and by percentile of latency.
local file = assert(io.open(os.getenv("BODY"), "rb"))
local body = file:read("*a")
file:close()

local requests, index = {}, 0

function init()
  for account = 1, 100 do
    requests[account] = wrk.format("POST", "/v1/chat/completions", {
      ["Host"] = wrk.host,
      ["Content-Type"] = "application/json",
      ["User-Agent"] = "OpenAI/Python 2.8.0",
      ["Authorization"] = "Bearer sk-bench-" .. account,
    }, body)
  end
end

function request()
  index = index % 100 + 1
  return requests[index]
end

function done(summary, latency)
  local errors = summary.errors
  local count = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local format = '{"requests":%d,"us":%d,"p50":%d,"p99":%d,"errors":%d}'
  local p50, p99 = latency:percentile(50), latency:percentile(99)
  print(string.format(format, summary.requests, summary.duration, p50, p99, count))
end
