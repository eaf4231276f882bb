local function show(value)
  local kind = type(value)
  if kind == "string" then
    return '"' .. value:gsub("[^%w%p ]", function(byte) return ("\\%03d"):format(byte:byte()) end) .. '"'
  elseif kind == "number" then
    return ("%.17g"):format(value)
  elseif kind == "table" then
    local parts = {}
    for key, item in pairs(value) do
      parts[#parts + 1] = "[" .. show(key) .. "]=" .. show(item)
    end
    return "{" .. table.concat(parts, ",") .. "}"
  end
  return (tostring(value):gsub("0x%x+", "0x"))
end
