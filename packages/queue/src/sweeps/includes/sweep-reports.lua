--- Reports of the sweep `id`, whose events are in `events`.
--- @keys sweep events
--- @args id
--- @include "~/redis/includes/common"

local now_ms = server_time_ms()

--- @include "~/events/includes/report"
