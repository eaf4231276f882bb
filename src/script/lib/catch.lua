-- Those functions of Lua that stop an error on its way, with `plain` between it and the script.
local globals, coroutine, plain = ...
local pcall, xpcall, error, type = globals.pcall, globals.xpcall, globals.error, globals.type
local made = {}

local function settle(done, ...)
  if done then return true, ... end
  return false, plain(...)
end

function made.pcall(...)
  return settle(pcall(...))
end

function made.xpcall(called, handler, ...)
  return settle(xpcall(called, function(raised) return handler(plain(raised)) end, ...))
end

if coroutine then
  local resume, create = coroutine.resume, coroutine.create

  function made.resume(...)
    return settle(resume(...))
  end

  local function pass(done, ...)
    if done then return ... end
    -- Level 3 is who resumed it: this function has taken the place of the one below.
    error(plain(...), 3)
  end

  function made.wrap(...)
    local thread = create(...)
    return function(...)
      return pass(resume(thread, ...))
    end
  end
end

return made
