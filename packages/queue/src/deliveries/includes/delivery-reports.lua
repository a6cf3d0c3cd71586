--- Reports of the delivery `id`, whose events are in `events`: each has its record as data.
--- @keys events
--- @args id record
--- @include "~/redis/includes/common"

local now_ms = server_time_ms()

--- @include "~/events/includes/report"
