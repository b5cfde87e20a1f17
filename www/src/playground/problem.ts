import { ApiError } from '../api.ts';

/** Why something that was pasted or loaded cannot be read, and what to do. */
export class InputError extends ApiError {
  constructor(message: string, remedy: string) {
    super(0, 'input', message, remedy);
  }
}

export const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
