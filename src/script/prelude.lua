-- The world of scripts, built once per engine from Lua's own libraries and the engine's functions (`native`).
--
-- Scripts see read-only tables. Lua 5.1 has none: what a script gets is an empty table, a proxy, whose metatable reads
-- from the real one and refuses to write. Functions that would look past a metatable (pairs, next, rawget, rawset,
-- setmetatable, getmetatable, table.insert, table.foreach) know the proxies.
--
-- Every place where Lua catches an error (pcall, xpcall, coroutine.resume, load) goes through native.caught: it gives
-- errors that the engine raised the form that Redis's have, and raises the end of a killed script again, so that no script
-- survives its end.
--
-- `kept` holds compiled scripts, and tables of the functions of libraries, which the engine knows by their slots in it.
--
-- Locals keep the names of the functions they hold: Lua takes the names in its error texts from there.

local native, libraries, kept = ...

local collectgarbage, error, gcinfo, getmetatable, ipairs = collectgarbage, error, gcinfo, getmetatable, ipairs
local loadstring, next, pairs, pcall, rawequal, rawget, rawset = loadstring, next, pairs, pcall, rawequal, rawget, rawset
local select, setfenv, setmetatable, tonumber, tostring = select, setfenv, setmetatable, tonumber, tostring
local type, unpack, xpcall, concat = type, unpack, xpcall, table.concat
local create, resume, wrap = coroutine.create, coroutine.resume, coroutine.wrap
local foreach, insert, sort = table.foreach, table.insert, table.sort
local caught, refusal, tick = native.caught, native.refusal, native.tick

local READ_ONLY = 'Attempt to modify a readonly table'

-- What a proxy stands for; what getmetatable shows of a metatable that must not be touched (false for nothing).
local hidden, shown = {}, {}

local function protect(real, visible_metatable)
  local proxy, guard = {}, { __index = real, __newindex = native.read_only }
  hidden[proxy] = real
  shown[guard] = visible_metatable or false
  return setmetatable(proxy, guard), guard
end

-- Tables and what may be asked of them.

local function visible_next(...)
  local t, key = ...
  local real = hidden[t]
  if real then
    return next(real, key)
  end
  return next(...)
end

local function visible_pairs(...)
  local t = ...
  if hidden[t] then
    return visible_next, t, nil
  end
  return pairs(...)
end

local function visible_rawget(...)
  local t, key = ...
  local real = hidden[t]
  if real then
    return rawget(real, key)
  end
  return rawget(...)
end

local function visible_rawset(...)
  if hidden[...] then
    error(READ_ONLY, 0)
  end
  return rawset(...)
end

local function visible_setmetatable(...)
  if hidden[...] then
    error(READ_ONLY, 0)
  end
  return setmetatable(...)
end

local function visible_getmetatable(...)
  local metatable = getmetatable(...)
  local instead = shown[metatable]
  if instead == nil then
    return metatable
  end
  return instead or nil
end

local function visible_insert(...)
  if hidden[...] then
    error(READ_ONLY, 0)
  end
  return insert(...)
end

local function visible_foreach(...)
  local t, f = ...
  local real = hidden[t]
  if not real or type(f) ~= 'function' then
    return foreach(...)
  end
  for key, value in next, real do
    local result = f(key, value)
    if result ~= nil then
      return result
    end
  end
end

-- A sort in C with C's comparison cannot be interrupted, and its quicksort can be made quadratic.
local SORTED_IN_C = 500

local function less(a, b)
  return a < b
end

local function bounded_sort(...)
  local t, comparison = ...
  if comparison == nil and type(t) == 'table' and #t > SORTED_IN_C then
    return sort(t, less)
  end
  return sort(...)
end

-- CVE-2025-46817: the size of a range is computed in an int, unchecked.
local MAX_UNPACKED = 8000

local function bounded_unpack(...)
  local t, first, last = ...
  if first ~= nil or last ~= nil then
    local from, to = tonumber(first or 1), tonumber(last or (type(t) == 'table' and #t))
    if from and to and not (to - from < MAX_UNPACKED) then
      error('too many results to unpack', 2)
    end
  end
  return unpack(...)
end

-- Errors.

local function settle(ok, ...)
  if ok then
    return true, ...
  end
  return false, (caught((...), true))
end

local function visible_pcall(...)
  return settle(pcall(...))
end

local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  local reason = caught((...), false)
  -- Run here, not where the error was raised: there, no hook can end it.
  local handled_well, result = pcall(handler, reason)
  if handled_well then
    return false, result
  end
  caught(result, false)
  return false, 'error in error handling'
end

local function visible_xpcall(...)
  if select('#', ...) < 2 then
    error("bad argument #2 to 'xpcall' (value expected)", 2)
  end
  local f, handler = ...
  return handled(handler, pcall(f))
end

-- Coroutines. The engine's hook counts the instructions of each apart: that one begins counts too.

local function visible_create(...)
  local f = ...
  if type(f) ~= 'function' then
    return create(...)
  end
  return create(function(...)
    tick()
    return f(...)
  end)
end

local function visible_wrap(...)
  local f = ...
  if type(f) ~= 'function' then
    return wrap(...)
  end
  return wrap(function(...)
    tick()
    return f(...)
  end)
end

local function resumed(ok, ...)
  if ok then
    return true, ...
  end
  return false, (caught((...), false))
end

local function visible_resume(...)
  return resumed(resume(...))
end

-- Compiling. `environment` is that of the running script.

local environment

local function compile(text, name, env)
  local refused = refusal(text)
  if refused then
    local chunk = name:match('^[@=](.*)') or '[string "..."]'
    return nil, chunk .. ':1: ' .. refused
  end
  -- Bytecode begins with ESC. After a blank it is a text with an ESC in it, which does not compile.
  if text:byte() == 27 then
    text = ' ' .. text
  end
  -- CVE-2025-49844: the name of the chunk is not safe from the collector while its text is read.
  collectgarbage('stop')
  local f, message = loadstring(text, name)
  collectgarbage('restart')
  if f then
    setfenv(f, env)
  end
  return f, message
end

local function expected(position, name, what, ...)
  local got = select('#', ...) < position and 'no value' or type((select(position, ...)))
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. what .. " expected, got " .. got .. ")", 3)
end

local function is_text(value)
  local kind = type(value)
  return kind == 'string' or kind == 'number'
end

local function visible_loadstring(...)
  local text, name = ...
  if not is_text(text) then
    expected(1, 'loadstring', 'string', ...)
  elseif name ~= nil and not is_text(name) then
    expected(2, 'loadstring', 'string', ...)
  end
  text = tostring(text)
  return compile(text, name or text, environment)
end

-- In Redis an error of the reader meets the handler of the whole script, which makes a table of it.
local function reader_failed(reason)
  if type(reason) ~= 'table' then
    reason = { err = 'ERR ' .. tostring(reason) }
  end
  return nil, reason
end

local function visible_load(...)
  local reader, name = ...
  if type(reader) ~= 'function' then
    expected(1, 'load', 'function', ...)
  elseif name ~= nil and not is_text(name) then
    expected(2, 'load', 'string', ...)
  end
  local pieces, count = {}, 0
  while true do
    local ok, piece = pcall(reader)
    if not ok then
      return reader_failed(caught(piece, false))
    elseif piece == nil or piece == '' then
      break
    elseif not is_text(piece) then
      return reader_failed(native.position() .. 'reader function must return a string')
    end
    count = count + 1
    pieces[count] = piece
  end
  return compile(concat(pieces), name or '=(load)', environment)
end

-- The collector. What a script does to it ends with the script.

-- Whether the next run has to find the collector or `environment` as they were: what a script does not pay for.
local stirred, tuned = false, false

local function visible_collectgarbage(...)
  local option = ...
  tuned = tuned or option == 'stop' or option == 'setpause' or option == 'setstepmul'
  stirred = stirred or tuned
  return collectgarbage(...)
end

local script_world

local function settle_down()
  stirred, environment = false, script_world
  if tuned then
    tuned = false
    collectgarbage('restart')
    collectgarbage('setpause', 200)
    collectgarbage('setstepmul', 200)
  end
end

-- The tables that scripts see.

local string_library = libraries.string
local string_metatable = getmetatable('')
string_metatable.__index = string_library

libraries.table.foreach, libraries.table.insert, libraries.table.sort = visible_foreach, visible_insert, bounded_sort
libraries.coroutine.create, libraries.coroutine.wrap = visible_create, visible_wrap
libraries.coroutine.resume = visible_resume

local base = {
  _VERSION = _VERSION,
  assert = assert,
  collectgarbage = visible_collectgarbage,
  error = error,
  gcinfo = gcinfo,
  getmetatable = visible_getmetatable,
  ipairs = ipairs,
  load = visible_load,
  loadstring = visible_loadstring,
  next = visible_next,
  pairs = visible_pairs,
  pcall = visible_pcall,
  rawequal = rawequal,
  rawget = visible_rawget,
  rawset = visible_rawset,
  select = select,
  setmetatable = visible_setmetatable,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = bounded_unpack,
  xpcall = visible_xpcall,
}
for name, library in pairs(libraries) do
  base[name] = protect(library)
end
shown[string_metatable] = protect({ __index = base.string })

local missing = { __index = native.missing }
local visible_missing = protect({ __index = native.missing })

-- An environment over `globals`: reads them, complains of what they lack, refuses to write.
local function world(globals)
  local env, guard = protect(setmetatable(globals, missing), visible_missing)
  globals._G = env
  return env, guard
end

local function with_base(globals, server)
  for name, value in pairs(base) do
    globals[name] = value
  end
  globals.redis = protect(server)
  globals.server = globals.redis
  return globals
end

local script_globals = with_base({}, native.script_server)
script_world = world(script_globals)

local function_globals = with_base({}, native.function_server)
local function_world, function_guard = world(function_globals)

local load_globals = { redis = protect(setmetatable(native.load_server, missing)) }
load_globals.server = load_globals.redis
setmetatable(load_globals, missing)

environment = script_world

-- What dofile and the like could do is not for us either.
for _, name in ipairs({
  'dofile', 'getfenv', 'load', 'loadfile', 'loadstring', 'module', 'newproxy', 'print', 'require', 'setfenv',
}) do
  _G[name] = nil
end

-- What the engine calls.

local engine = {}

function engine.compile_script(text, name)
  return compile(text, name, script_world)
end

function engine.compile_library(text, name)
  return compile(text, name, function_world)
end

local failed = native.failed

local called, called_keys, called_values

local function call()
  return called(called_keys, called_values)
end

-- `name` is that of a function, or nil for a script.
local function run(slot, name, keys, values)
  if stirred then
    settle_down()
  end
  if not name then
    script_globals.KEYS, script_globals.ARGV = keys, values
    return xpcall(kept[slot], failed)
  end
  called, called_keys, called_values = kept[slot][name], keys, values
  if not called then
    return nil
  end
  stirred, environment = true, function_world
  return xpcall(call, failed)
end

engine.run = run

-- Few keys and arguments come one by one, behind them a nil: tables are made here for less than in Rust.
engine.run_few = {
  [0] = function(slot, name, ...)
    return run(slot, name, {}, { ... })
  end,
  function(slot, name, a, ...)
    return run(slot, name, { a }, { ... })
  end,
  function(slot, name, a, b, ...)
    return run(slot, name, { a, b }, { ... })
  end,
  function(slot, name, a, b, c, ...)
    return run(slot, name, { a, b, c }, { ... })
  end,
  function(slot, name, a, b, c, d, ...)
    return run(slot, name, { a, b, c, d }, { ... })
  end,
}

-- Scripts with one key and up to two arguments, the most of all: as `run`, with nothing between.
engine.run_one = {
  [0] = function(slot, a)
    if stirred then
      settle_down()
    end
    script_globals.KEYS, script_globals.ARGV = { a }, {}
    return xpcall(kept[slot], failed)
  end,
  function(slot, a, b)
    if stirred then
      settle_down()
    end
    script_globals.KEYS, script_globals.ARGV = { a }, { b }
    return xpcall(kept[slot], failed)
  end,
  function(slot, a, b, c)
    if stirred then
      settle_down()
    end
    script_globals.KEYS, script_globals.ARGV = { a }, { b, c }
    return xpcall(kept[slot], failed)
  end,
}

-- Those of them that only read elements of KEYS and ARGV find always the same tables.
local one_key, no_values, one_value, two_values = { false }, {}, { false }, { false, false }

engine.run_plain = {
  [0] = function(slot, a)
    if stirred then
      settle_down()
    end
    one_key[1] = a
    script_globals.KEYS, script_globals.ARGV = one_key, no_values
    return xpcall(kept[slot], failed)
  end,
  function(slot, a, b)
    if stirred then
      settle_down()
    end
    one_key[1], one_value[1] = a, b
    script_globals.KEYS, script_globals.ARGV = one_key, one_value
    return xpcall(kept[slot], failed)
  end,
  function(slot, a, b, c)
    if stirred then
      settle_down()
    end
    one_key[1], two_values[1], two_values[2] = a, b, c
    script_globals.KEYS, script_globals.ARGV = one_key, two_values
    return xpcall(kept[slot], failed)
  end,
}

function engine.run_library(f)
  if stirred then
    settle_down()
  end
  stirred, environment = true, function_world
  function_guard.__index = load_globals
  local ok = xpcall(f, failed)
  function_guard.__index = function_globals
  return ok
end

-- Drops what the last run has left reachable.
function engine.forget_run()
  if stirred then
    settle_down()
  end
  script_globals.KEYS, script_globals.ARGV = nil, nil
  one_key[1], one_value[1], two_values[1], two_values[2] = false, false, false, false
  called, called_keys, called_values = nil, nil, nil
end

return engine
