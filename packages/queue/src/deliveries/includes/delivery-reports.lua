--- Reports of the ends of deliveries.
--- @include "~/redis/includes/common"

local now_ms = server_time_ms()

--- @include "~/events/includes/report"
