import { MachineList } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import type { HttpApp } from '@lorasmith/service-kit';
import { answer, errorAnswers } from '../openapi/answers.js';

export async function machineRoutes(app: HttpApp, { machines }: Pick<JobStore, 'machines'>): Promise<void> {
  app.get(
    '/machines',
    {
      schema: {
        operationId: 'listMachines',
        summary: 'What the workers train on: their machines, engines and cards',
        tags: ['machines'],
        response: { 200: answer('The machines, by the name of their worker.', MachineList), ...errorAnswers(503) },
      },
    },
    async () => ({ data: await machines.list() }),
  );
}
