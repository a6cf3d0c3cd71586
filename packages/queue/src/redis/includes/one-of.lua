--- True if a value is one of those that are joined by commas.
local function is_one_of(value, joined)
  return string.find(',' .. joined .. ',', ',' .. value .. ',', 1, true) ~= nil
end
