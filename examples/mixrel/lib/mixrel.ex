defmodule Mixrel do
  @moduledoc "A counter under a supervisor: the smallest release that has something to lose."
  use Application

  @impl true
  def start(_type, _arguments) do
    counter = %{id: Mixrel.Counter, start: {Agent, :start_link, [fn -> 0 end, [name: Mixrel.Counter]]}}
    Supervisor.start_link([counter], strategy: :one_for_one, name: Mixrel.Supervisor)
  end

  @doc "Counts, and says how far."
  def count, do: Agent.get_and_update(Mixrel.Counter, &{&1 + 1, &1 + 1})
end
