-- What wrk sends: one chat of BODY from a hundred accounts in turn. Prints a line of JSON in the end.
local file = assert(io.open(os.getenv("BODY"), "rb"))
local body = file:read("*a")
file:close()

local requests, next_one = {}, 0

function init()
  for account = 1, 100 do
    requests[account] = wrk.format("POST", "/v1/chat/completions", {
      ["Host"] = wrk.host, ["Content-Type"] = "application/json", ["User-Agent"] = "OpenAI/Python 2.8.0",
      ["Authorization"] = "Bearer sk-bench-" .. account,
    }, body)
  end
end

function request()
  next_one = next_one % 100 + 1
  return requests[next_one]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format('{"requests":%d,"us":%d,"p50":%d,"p99":%d,"errors":%d}', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
