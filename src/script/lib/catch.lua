-- Those functions of Lua that stop an error on its way, with `plain` between it and the script: for the unit tests, where
-- there is no prelude.
local globals, coroutine, plain = ...
local pcall, xpcall, error, resume, create = pcall, xpcall, error, coroutine.resume, coroutine.create

local function settle(done, ...)
  if done then return true, ... end
  return false, plain(...)
end

function globals.pcall(...)
  return settle(pcall(...))
end

function globals.xpcall(called, handler)
  return settle(xpcall(called, function(raised) return handler(plain(raised)) end))
end

function coroutine.resume(...)
  return settle(resume(...))
end

local function pass(done, ...)
  if done then return ... end
  -- Level 3 is who resumed it: this function has taken the place of the one below.
  error(plain(...), 3)
end

function coroutine.wrap(...)
  local thread = create(...)
  return function(...)
    return pass(resume(thread, ...))
  end
end
