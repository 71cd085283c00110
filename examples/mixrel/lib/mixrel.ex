defmodule Mixrel do
  @moduledoc "A counter under a supervisor: the smallest release that has something to lose."
  use Application

  @impl true
  def start(_type, _arguments) do
    Supervisor.start_link([Mixrel.Counter], strategy: :one_for_one, name: Mixrel.Supervisor)
  end
end

defmodule Mixrel.Counter do
  @moduledoc "Counts. A version with another state converts it in `code_change/3`, up and down."
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)

  @doc "Counts, and says how far."
  def count, do: GenServer.call(__MODULE__, :count)

  @impl true
  def init(count), do: {:ok, count}

  @impl true
  def handle_call(:count, _from, count), do: {:reply, count + 1, count + 1}
end
