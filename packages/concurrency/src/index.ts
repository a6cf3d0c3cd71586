export { mapWithConcurrency, Semaphore, SharedRounds, SingleFlight } from './calls.js';
export { Alarm, inTime, pause, untilAborted } from './waits.js';
