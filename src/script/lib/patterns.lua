-- gmatch and gsub. `rust` has the functions that match; positions count from 0. A function of the script is
-- called from here as often and as deep as from Lua's own gsub.
local globals, rust = ...
local string, table, type = globals.string, globals.table, globals.type
local sub, concat = string.sub, table.concat
local begin_gmatch, begin_gsub, step = rust.begin_gmatch, rust.begin_gsub, rust.step
local captures, invalid_value = rust.captures, rust.invalid_value

local function gmatch(...)
  local source, pattern = begin_gmatch(...)
  local start = 0
  return function()
    local count, from, to, a, b, c, d = step(source, pattern, start, false, false)
    if not count then
      start = #source + 1
      return
    end
    local begin = start
    start = to > from and to or to + 1
    if count == 1 then return a end
    if count == 2 then return a, b end
    if count == 3 then return a, b, c end
    if count == 4 then return a, b, c, d end
    return captures(source, pattern, begin, false)
  end
end

local function gsub(...)
  local text, source, pattern, anchored, most, replacement = begin_gsub(...)
  if text then return text, source end
  local is_function = type(replacement) == "function"
  local parts, size, done, copied, start = {}, 0, 0, 0, 0
  while done < most do
    local count, from, to, a, b, c, d = step(source, pattern, start, anchored, not is_function)
    if not count then break end
    done = done + 1
    local value
    if not is_function then
      value = replacement[a]
    elseif count == 1 then
      value = replacement(a)
    elseif count == 2 then
      value = replacement(a, b)
    elseif count == 3 then
      value = replacement(a, b, c)
    elseif count == 4 then
      value = replacement(a, b, c, d)
    else
      value = replacement(captures(source, pattern, start, anchored))
    end
    if not value then
      value = sub(source, from + 1, to)
    else
      local kind = type(value)
      if kind ~= "string" and kind ~= "number" then invalid_value(value) end
    end
    if from > copied then
      size = size + 1
      parts[size] = sub(source, copied + 1, from)
    end
    size = size + 1
    parts[size] = value
    copied = to
    start = to > from and to or to + 1
    if anchored or start > #source then break end
  end
  parts[size + 1] = sub(source, copied + 1)
  return concat(parts), done
end

return gmatch, gsub
