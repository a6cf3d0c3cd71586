export { mapWithConcurrency, Semaphore } from './limited-calls.js';
export { SharedRounds, SingleFlight } from './shared-calls.js';
export { Alarm, inTime, pause, untilAborted } from './waits.js';
