%% A case in which chance says what happens: two hundred steps of peers that keep to the protocol. The seed
%% is the name of the case, so they're the same each time.
-module(recorder_walk).

-export([walk/2]).

-import(recorder, [up/1, down/2, puppets/2, kill/1, kill/2, say/1, say_cast/1, update/1]).
-import(recorder, [subscribe/2, unsubscribe/2]).

%% Peers are `#{Node => {Pid, Version, Members, Data}}`; `own` is what we own, `#{Group => Pids}` of pg or
%% `#{Name => Weight}`.
-record(walk, {module, random, up = [], peers = #{}, own, subscribers = [], members = []}).

walk(Seed, Module) ->
    Random = rand:seed_s(exsss, erlang:phash2(Seed)),
    Members = case Module of pg -> puppets(a, 4); dp_names -> [] end,
    steps(200, #walk{module = Module, random = Random, own = #{}, members = Members}).

steps(0, _) -> ok;
steps(N, Walk) ->
    {What, Walk1} = pick([connection, peer, peer, update, update, update, subscriber, hello, death], Walk),
    steps(N - 1, step(What, Walk1)).

pick(List, Walk = #walk{random = Random}) ->
    {N, Next} = rand:uniform_s(length(List), Random),
    {lists:nth(N, List), Walk#walk{random = Next}}.

%% A connection comes or goes; one goes seldom.
step(connection, Walk0 = #walk{up = Up, peers = Peers}) ->
    {Node, Walk1} = pick([b, c, d], Walk0),
    {Chance, Walk} = pick([1, 2, 3, 4], Walk1),
    case lists:member(Node, Up) of
        false ->
            up(Node),
            Walk#walk{up = [Node | Up]};
        true when Chance =:= 1 ->
            Lost = case Peers of #{Node := _} -> 1; _ -> 0 end,
            down(Node, Lost),
            Walk#walk{up = Up -- [Node], peers = maps:remove(Node, Peers)};
        true ->
            Walk
    end;
%% A peer appears on a node where there's none, or changes what it owns.
step(peer, Walk = #walk{up = []}) ->
    Walk;
step(peer, Walk0 = #walk{up = Up, module = Module, peers = Peers}) ->
    {Node, Walk1} = pick(lists:sort(Up), Walk0),
    case Peers of
        #{Node := {Pid, Version, Members, Data}} ->
            {{Update, NewData}, Walk2} = random_update(Module, Version, Members, Data, Walk1),
            peer_update(Module, Version, Pid, Update),
            Walk2#walk{peers = Peers#{Node => {Pid, Version, Members, NewData}}};
        _ ->
            {Version, Walk2} = pick(case Module of pg -> [0, 1]; dp_names -> [1, 2, 3] end, Walk1),
            [Pid | Members] = puppets(Node, 3),
            {{_, Data}, Walk3} = random_update(Module, Version, Members, #{}, Walk2),
            peer_hello(Module, Version, Pid),
            peer_data(Module, Version, Pid, Data),
            Walk3#walk{peers = Peers#{Node => {Pid, Version, Members, Data}}}
    end;
step(update, Walk0 = #walk{module = Module, members = Members, own = Own}) ->
    {{Update, NewOwn}, Walk} = random_update(Module, 2, Members, Own, Walk0),
    update(Update),
    Walk#walk{own = NewOwn};
step(subscriber, Walk0 = #walk{module = Module, subscribers = Subscribers, random = Random}) ->
    {N, Next} = rand:uniform_s(4, Random),
    case Subscribers of
        [{Pid, Ref} | Rest] when N =:= 1 ->
            ok = unsubscribe(Pid, Ref),
            exit(Pid, kill),
            Walk0#walk{subscribers = Rest, random = Next};
        [{Pid, _} | Rest] when N =:= 2 ->
            kill(Pid),
            Walk0#walk{subscribers = Rest, random = Next};
        _ when length(Subscribers) < 3 ->
            {Key, Walk} = pick(case Module of
                                   pg -> [scope, {group, 1}];
                                   dp_names -> [all, {node, node()}]
                               end, Walk0#walk{random = Next}),
            [Pid] = puppets(a, 1),
            {Ref, _} = subscribe(Pid, Key),
            Walk#walk{subscribers = Subscribers ++ [{Pid, Ref}]};
        _ ->
            Walk0#walk{random = Next}
    end;
%% A peer says hello or sends its local data again.
step(hello, Walk = #walk{peers = Peers}) when Peers =:= #{} ->
    Walk;
step(hello, Walk0 = #walk{module = Module, peers = Peers}) ->
    {Node, Walk1} = pick(lists:sort(maps:keys(Peers)), Walk0),
    #{Node := {Pid, Version, Members, Data}} = Peers,
    {What, Walk2} = pick([hello, data], Walk1),
    case What of
        hello ->
            peer_hello(Module, Version, Pid),
            Walk2;
        data ->
            {{_, NewData}, Walk3} = random_update(Module, Version, Members, Data, Walk2),
            peer_data(Module, Version, Pid, NewData),
            Walk3#walk{peers = Peers#{Node => {Pid, Version, Members, NewData}}}
    end;
%% A peer ends, or a member.
step(death, Walk0 = #walk{peers = Peers, members = Members, own = Own}) ->
    {What, Walk1} = pick([peer, member, none, none, none], Walk0),
    case {What, lists:sort(maps:keys(Peers)), Members} of
        {peer, [_ | _] = Nodes, _} ->
            {Node, Walk2} = pick(Nodes, Walk1),
            #{Node := {Pid, _, _, _}} = Peers,
            kill(Pid),
            Walk2#walk{peers = maps:remove(Node, Peers)};
        {member, _, [_ | _]} ->
            {Member, Walk2} = pick(Members, Walk1),
            Without = maps:filter(fun(_, Pids) -> Pids =/= [] end,
                                  maps:map(fun(_, Pids) -> [P || P <- Pids, P =/= Member] end, Own)),
            case Without =:= Own of
                true -> kill(Member, 0);
                false -> kill(Member)
            end,
            [New] = puppets(a, 1),
            Walk2#walk{own = Without, members = [New | Members -- [Member]]};
        _ ->
            Walk1
    end.

%% An update that changes something, and the data after it.
random_update(pg, _, Members, Data, Walk0) ->
    {Group, Walk1} = pick([1, 2, {three}], Walk0),
    {Member, Walk2} = pick(Members, Walk1),
    {Leave, Walk} = pick([true, false], Walk2),
    Pids = maps:get(Group, Data, []),
    case Leave andalso lists:member(Member, Pids) of
        true ->
            NewData = case Pids -- [Member] of
                          [] -> maps:remove(Group, Data);
                          Left -> Data#{Group => Left}
                      end,
            {{[{Group, [], [Member]}], NewData}, Walk};
        false ->
            {{[{Group, [Member], []}], Data#{Group => [Member | Pids]}}, Walk}
    end;
random_update(dp_names, Version, _, Data, Walk0) ->
    {Name, Walk1} = pick([1, 2, 3, <<"four">>, {5}], Walk0),
    {Weight, Walk2} = pick(case Version of 1 -> [1]; _ -> [1, 2, 3] end, Walk1),
    {Drop, Walk} = pick([true, false], Walk2),
    {Change, NewData} =
        case Data of
            #{Name := _} when Drop; Version =:= 1 -> {{drop, Name}, maps:remove(Name, Data)};
            #{Name := Weight} -> {{set, Name, Weight + 1}, Data#{Name => Weight + 1}};
            _ -> {{set, Name, Weight}, Data#{Name => Weight}}
        end,
    {{[Change], NewData}, Walk}.

peer_hello(pg, 0, Pid) -> say({discover, Pid});
peer_hello(_, Version, Pid) -> say({discover, Pid, Version}).

peer_data(pg, 0, Pid, Data) -> say_cast({sync, Pid, maps:to_list(Data)});
peer_data(pg, 1, Pid, Data) -> say_cast({local_data, Pid, 1, Data});
peer_data(dp_names, 1, Pid, Data) -> say_cast({local_data, Pid, 2, lists:sort(maps:keys(Data))});
peer_data(dp_names, _, Pid, Data) -> say_cast({local_data, Pid, 2, Data}).

peer_update(pg, 0, Pid, [{Group, [Member], []}]) -> say({join, Pid, Group, Member});
peer_update(pg, 0, Pid, [{Group, [], [Member]}]) -> say({leave, Pid, Member, [Group]});
peer_update(dp_names, 1, Pid, [{set, Name, _}]) -> say({update, Pid, [{add, Name}]});
peer_update(dp_names, 1, Pid, [{drop, Name}]) -> say({update, Pid, [{remove, Name}]});
peer_update(_, _, Pid, Update) -> say({update, Pid, Update}).
