import { type Machine, MachineList } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { answer, errorAnswers } from '../openapi/answers.js';

export async function machineRoutes(
  app: HttpApp,
  { machines, queue }: Pick<JobStore, 'machines' | 'queue'>,
): Promise<void> {
  app.get(
    '/machines',
    {
      schema: {
        operationId: 'listMachines',
        summary: 'What the workers train on: their machines, engines and cards, and whether they run',
        tags: ['machines'],
        response: { 200: answer('The machines, by the name of their worker.', MachineList), ...errorAnswers(503) },
      },
    },
    async (): Promise<MachineList> => {
      const [profiles, presences] = await Promise.all([machines.list(), queue.presences()]);
      const data = profiles.map((profile): Machine => {
        const presence = presences.get(profile.worker);
        return {
          ...profile,
          running:
            presence === undefined
              ? null
              : { jobs: presence.held.length, jobs_at_once: presence.slots, load: presence.load ?? null },
        };
      });
      return { data };
    },
  );
}
