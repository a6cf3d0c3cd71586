import { eventText } from '@lorasmith/client/core';
import { Moment } from '../../components/moment.js';
import { ScrollRegion } from '../../components/scroll-region.js';
import type { NotedEvent } from '../../history/job-history.js';

/** The events, the latest first. Steps are in the curves. */
export function EventLog({ events }: { events: readonly NotedEvent[] }) {
  return (
    <section class="card">
      <h2>Events</h2>
      <ScrollRegion label="List of events" class="event-log">
        <ul>
          {events.toReversed().map((event) => (
            <li key={event.id}>
              <Moment at={event.created_at} isExact /> <span>{textOf(event)}</span>
            </li>
          ))}
        </ul>
      </ScrollRegion>
    </section>
  );
}

function textOf(event: NotedEvent): string {
  switch (event.type) {
    case 'report-ready':
      return 'the report is ready';
    case 'checkpoint-saved':
      return `checkpoint after step ${event.data.step}`;
    case 'job-started':
      return `${eventText(event)[0]} on ${event.data.worker}`;
    default:
      return (eventText(event)[0] ?? event.type).replace(/:$/, '');
  }
}
