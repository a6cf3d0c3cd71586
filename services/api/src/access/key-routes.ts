import { KeyAnswer } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { answer, errorAnswers } from '../openapi/answers.js';

/** The rights of a client, so that it can offer what they allow alone. */
export async function keyRoutes(app: HttpApp): Promise<void> {
  app.get(
    '/key',
    {
      schema: {
        operationId: 'getKey',
        summary: 'The API key of the request, and its role',
        tags: ['keys'],
        response: {
          200: answer('The key. Without keys everything is allowed: the role is `admin`.', KeyAnswer),
          ...errorAnswers(),
        },
      },
    },
    async ({ identity: { key } }) => ({
      object: 'key' as const,
      id: key?.id ?? null,
      name: key?.name ?? null,
      role: key?.role ?? 'admin',
    }),
  );
}
